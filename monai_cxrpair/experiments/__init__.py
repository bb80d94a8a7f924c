"""Which runs make a table?

| module | question |
|---|---|
| `experiment` | what an experiment file says, checked |
| `plan` | which commands that makes, and which of them are done |
| `estimate` | how long and how large |
| `runner` | running them: several at once, stopped and gone on with, failures named |
| `collect` | the AUCs of all seeds and draws, from the `results.json` files alone |
| `figures` | means, differences, how sure they are |
| `write` | `table.md`, `table.csv`, `table.json` |
"""
