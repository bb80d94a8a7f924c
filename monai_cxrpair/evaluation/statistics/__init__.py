"""How sure is a figure?

| module | question |
|---|---|
| `auc` | areas under the ROC and the precision-recall curve, once and in every replicate |
| `bootstrap` | which patients and label draws stand in a replicate, percentile interval, p |
| `delong` | variance of AUCs without resampling, radiographs independent or clustered in patients |
| `compare` | two encoders on the same test patients; Holm's correction over a table |
| `variance` | how much of the spread is the label draw, the pre-training seed, the test patients |
| `proportion`, `operating` | a share with its interval; thresholds and what they do |
| `calibration`, `decision` | are the probabilities right, and what is acting on them worth |
| `subgroups` | sex, age band, view, devices |
| `learning_curve` | how many labels until an AUC of x |
"""
