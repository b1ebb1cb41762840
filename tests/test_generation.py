"""New tokens after many prompts at once are those of transformers' own generation, row by row."""

import pytest

for package in ("torch", "transformers"):
    pytest.importorskip(package, reason="needs the extra featurize")

import torch  # noqa: E402
from transformers import GenerationConfig  # noqa: E402

from featurize import generation  # noqa: E402
from featurize.generation import Generation  # noqa: E402
from tests.support import tiny_videollama3 as tiny  # noqa: E402

WORDS, PAD = 24, 256
LENGTHS = (30, 51, 7, 300, 12, 40, 41, 42, 43)


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def settings(**changes) -> GenerationConfig:
    usual = {"max_new_tokens": WORDS, "do_sample": False, "repetition_penalty": 1.0}
    return GenerationConfig(**usual | changes, eos_token_id=[258, 256], pad_token_id=PAD)


def prompts(lengths=LENGTHS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 48, generator=generator) for n in lengths]


def made(model, **changes) -> Generation:
    return Generation(model.model.language_model, model.lm_head, settings(**changes))


def cut(row: torch.Tensor) -> list[int]:
    """A row without the padding after its end."""
    tokens = row.tolist()
    while tokens and tokens[-1] == PAD:
        tokens.pop()
    return tokens


@torch.inference_mode()
def plain(model, prompt) -> list[int]:
    mask = torch.ones(1, len(prompt), dtype=torch.long)
    model.generation_config = settings()
    return cut(model.generate(inputs_embeds=prompt[None], attention_mask=mask)[0])


def test_every_row_is_that_of_the_plain_call(model):
    found = [cut(row) for row in made(model)(prompts())]
    assert found == [plain(model, prompt) for prompt in prompts()]
    assert len(set(map(len, found))) > 1  # rows end on their own


def test_a_second_batch_is_not_touched_by_the_first(model):
    again = made(model)
    again(prompts())
    for lengths in ((5, 9), (250, 250, 250), (31,)):
        expected = [plain(model, prompt) for prompt in prompts(lengths)]
        for _ in range(2):
            assert [cut(row) for row in again(prompts(lengths))] == expected


def test_prompts_that_do_not_fit_together_are_continued_in_turn(model, monkeypatch):
    together = made(model)(prompts())
    few = made(model)
    monkeypatch.setattr(few, "_rows", lambda longest: 8)
    rows, read = [], generation._Step.begin
    monkeypatch.setattr(
        generation._Step, "begin", lambda step: rows.append(step.shape[0]) or read(step)
    )
    assert few(prompts()).equal(together)
    assert rows == [8, 8]


def test_the_cache_is_as_large_as_it_says(model):
    language, longest = model.model.language_model, 512
    step = generation._Step(language, model.lm_head, 8, longest)
    held = sum(t.numel() * t.element_size() for t in step._keys + step._values)
    assert held == 8 * generation._Step.bytes_a_row(language, longest)


def test_sampling_goes_by_the_seed_and_by_the_likeliest_alone(model):
    def sampled(**changes):
        torch.manual_seed(3)
        likely = {"temperature": 1.0, "top_p": 1.0} | changes
        return made(model, do_sample=True, top_k=0, **likely)(prompts())

    hot = sampled(temperature=5.0)
    assert hot.equal(sampled(temperature=5.0))
    greedy = made(model)(prompts())
    assert not hot.equal(greedy)
    assert sampled(top_p=1e-6).equal(greedy)
