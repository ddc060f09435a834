"""Train a policy with TRL on rewards from a running server: `make serve` first.

python examples/trl_grpo.py [--trainer grpo|rloo] [--steps 8]

Nothing is downloaded: the policy is tiny and starts from random weights, and each of its words is a whole step. It
answers questions about easy-vqa's pictures, which it does not see; the reward model does.
"""

import argparse
import json
import tempfile
from pathlib import Path

from datasets import Dataset, Image
from easy_vqa import get_train_image_paths, get_train_questions
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from steelyard.trainers.trl import RewardFunction

COLORS = ("black", "gray", "red", "green", "blue", "teal", "brown", "yellow")
SHAPES = ("circle", "rectangle", "triangle")
STEPS = (
    *(f"I see a {shape}.\n\n" for shape in SHAPES),
    *(f"The color is {color}.\n\n" for color in COLORS),
    *(f"Answer: {answer}" for answer in (*SHAPES, *COLORS, "yes", "no")),
)
TEMPLATE = "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}assistant "
GENERATIONS = 4


def questions(count: int) -> Dataset:
    """Conversational prompts, with each picture in a column that TRL leaves to the reward.

    A column named `image` or `images` would go to the policy too, for which that must be a vision-language model.
    """
    texts, _, pictures = get_train_questions()
    paths = get_train_image_paths()
    rows = {
        "prompt": [[{"role": "user", "content": text}] for text in texts[:count]],
        "picture": [paths[picture] for picture in pictures[:count]],
    }
    return Dataset.from_dict(rows).cast_column("picture", Image())


def policy(data: Dataset) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    words = {word for prompt in data["prompt"] for word in prompt[0]["content"].split()}
    vocabulary = ["<pad>", "<end>", "<unknown>", "user", "assistant", *sorted(words), *STEPS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unknown>",
        chat_template=TEMPLATE,
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config), fast


def train(reward: RewardFunction, kind: str, steps: int, folder: Path) -> GRPOTrainer | RLOOTrainer:
    data = questions(2 * steps)
    model, tokenizer = policy(data)
    make_trainer, make_config = (GRPOTrainer, GRPOConfig) if kind == "grpo" else (RLOOTrainer, RLOOConfig)
    trainer = make_trainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=[reward],
        train_dataset=data,
        args=make_config(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=2 * GENERATIONS,
            num_generations=GENERATIONS,
            max_completion_length=4,
            learning_rate=0.01,
            beta=0.0,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=0,
        ),
    )
    trainer.train()
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainer", choices=("grpo", "rloo"), default="grpo")
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reward = RewardFunction(image_column="picture")
        trainer = train(reward, options.trainer, options.steps, Path(folder))
    for row in trainer.state.log_history:
        if "reward" in row:
            print(json.dumps({name: row[name] for name in ("step", "reward", "steelyard/unscored")}))


if __name__ == "__main__":
    main()
