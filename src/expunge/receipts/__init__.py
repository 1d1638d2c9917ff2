"""Evidence of unlearning: receipts, their keys and proofs, and the ledger of deletion requests."""
