"""What is kept and shown: provenance, run_folder, tracking, figures."""
