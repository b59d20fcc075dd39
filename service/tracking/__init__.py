"""The MLflow side: an outbox of what happened, its delivery, and reading it back."""
