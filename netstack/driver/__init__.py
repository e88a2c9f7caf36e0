"""The only loops of the package: who runs the stacks, in real time or in simulated time."""
