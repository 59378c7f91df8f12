"""OpenAI's fine-tuning API: bodies to jobs, jobs to objects."""
