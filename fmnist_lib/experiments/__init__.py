"""Running chapters as experiments: one run, sweeps of many, and what they measured."""
