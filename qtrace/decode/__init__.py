"""From a recording's raw records to typed rows: descriptors, byte streams, futexes, history."""
