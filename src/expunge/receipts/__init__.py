"""What can be shown to others later: receipts, their keys and proofs, and the ledger of deletion requests."""
