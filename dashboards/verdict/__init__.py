"""Does a cell train better than the baseline, or was it luck? Numbers in, judged values out.

Read in this order: `evidence` (what goes in), `comparable` (what may be compared), `speed` (curves as times),
`samples` and `pairing` (the paired numbers), `statistics` (one sample), `flips` (many), `looks` (several times),
`anytime` (at any time), `engine` (which of them decide), `planning` (what more seeds would do), `judging` (the
whole way), `values` (what comes out), `wording`, `sentences` and `outlook` (how it is said), `plain` (for
programs); beside it `variance` and `spread_sentences` (where the spread comes from) and `screening` (what a policy
may exclude on the way). No tables and no charts in here: the service uses it, too.
"""
