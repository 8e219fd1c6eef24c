"""Everything that touches a live program: launch, tracing, /proc, Python stacks, the hang watch."""
