"""Does a cell train better than the baseline, or was it luck? Numbers in, judged values out.

Read in this order: `evidence` (what goes in), `comparable` (what may be compared), `samples` (the
paired numbers), `engine` (which statistics decide; they are in `statistics`, `planning`, `speed`),
`judging` (the whole way), `values` (what comes out), `sentences` (how it is said). No tables and no
charts in here: the service uses it, too.
"""
