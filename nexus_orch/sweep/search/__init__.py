"""The search: a pure function of the points and all outcomes so far says what to do next, and why."""
