"""Training code of guardreasoner-sdk: how its models are made. Needs the `train` extra; no runtime imports it."""
