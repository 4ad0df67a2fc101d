def measure(bench, figures):
    pass
