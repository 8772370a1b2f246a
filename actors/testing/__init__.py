"""What tests of actors are written with."""
