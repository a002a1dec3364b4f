"""The search of a sweep on simulated machines, beside Optuna's TPE, random choice and the grid in order."""
