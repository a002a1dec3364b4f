"""What the observations of a running engine mean. Pure: no clock, no operating system, no input and output.

`verdict` folds observations into a verdict, `diagnosis` judges a whole log; both follow the log through `reading`.
"""
