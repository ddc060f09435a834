"""Two small reward models, trained on easy-vqa's training split and judged on its test split."""
