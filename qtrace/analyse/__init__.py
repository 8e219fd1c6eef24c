"""Who waits for whom: the wait-for graph, its reduction, patterns and verdict; no input or output."""
