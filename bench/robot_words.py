"""Sentences as 16 numbers, for bench/robot_skills.py: the sentence encoder's vector, along the 16 main directions of simple commands.

The directions are of all pairs of the verbs and things below. No task's wording is among what they are made of.
"""
import numpy as np
import torch

WIDTH = 16
VERBS = ["open", "close", "push", "pull", "press", "turn on", "turn off", "lift", "place", "slide", "insert", "take out", "hit", "move", "grasp", "reach for", "rotate", "drop", "sweep", "throw"]
THINGS = ["door", "drawer", "window", "tap", "button", "handle", "plate", "cup", "ball", "block", "nail", "peg", "hole", "wall", "shelf", "lever", "stick", "coffee machine", "basket", "box"]


class Words:
    def __init__(self, folder):
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer, self.encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
        grid = self.encode([f"{v} the {t}" for v in VERBS for t in THINGS])
        self.mean = grid.mean(0)
        _, _, directions = np.linalg.svd(grid - self.mean, full_matrices=False)
        self.directions = directions[:WIDTH].T

    @torch.no_grad()
    def encode(self, sentences):
        tokens = self.tokenizer(sentences, padding=True, return_tensors="pt")
        hidden, mask = self.encoder(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean).numpy()

    def of(self, sentences):
        x = (self.encode(sentences) - self.mean) @ self.directions
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
