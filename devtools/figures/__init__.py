"""The figures of docs/evaluation.md."""
