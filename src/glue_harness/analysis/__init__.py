"""Pure functions of evidence: scores, summaries, statistics, paired comparison, claims, verdicts."""
