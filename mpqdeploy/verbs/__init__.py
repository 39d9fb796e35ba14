"""The verbs that work on files and machines without a run: what each prints, and its JSON."""
