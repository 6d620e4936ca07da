"""How a judgement is made: judges turn exchanges into judgements."""
