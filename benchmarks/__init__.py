"""Programs that measure: speed, reliability, robustness, latency, prompts."""
