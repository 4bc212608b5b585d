"""The `tokentide` command and what stands above all parts: replay, audit, the embedded stack."""
