"""What the system tells about itself: events, meters, probes, traces."""
