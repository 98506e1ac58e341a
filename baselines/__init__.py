"""What the fine-tuned model is compared with. Run: python -m baselines --help"""
