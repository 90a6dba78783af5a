"""From configuration to models and tokenizers."""
