"""People: what `person_job` is made of."""
