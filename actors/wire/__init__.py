"""What crosses the wire and what is stored: envelopes, arguments, replies, errors, states."""
