"""Guards inside other frameworks. One module per framework; each needs its own extra."""
