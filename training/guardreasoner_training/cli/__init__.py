"""The commands ``finetune``, ``export`` and ``train``, which the command line finds by an entry point."""
