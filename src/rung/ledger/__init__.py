"""The durable, hash-chained record of receipts and egress decisions."""
