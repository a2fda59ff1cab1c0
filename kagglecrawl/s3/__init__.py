"""An S3-compatible store: where it is, what it can do, objects with receipts."""
