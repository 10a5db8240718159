"""The best file for a budget: what each choice costs and loses, and the choice of least loss."""
