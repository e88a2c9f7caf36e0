"""What every layer shares: addresses, numbers, timers, randomness, errors and the trace."""
