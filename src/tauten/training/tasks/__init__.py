"""Tasks of a training: what a batch becomes, how it is validated, what is written at the end."""
