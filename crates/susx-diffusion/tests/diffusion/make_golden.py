#!/usr/bin/env python3
"""Makes the golden files of this folder, the results of `diffusers`.

    python make_golden.py

It needs numpy, onnx, onnxruntime, pillow, tokenizers, torch (any build), diffusers, transformers 4 and ftfy; the tests
need none of them. Nothing is shared with the Rust code: the
schedulers and the pipeline are those of diffusers, the tokenizer and the preprocessing those of transformers, and the
noise is computed by the description in crates/susx-diffusion/src/noise.rs. The schedulers are those of diffusers 0.39.0,
and so are the images of the variants `ancestral` and `lcm`; the other images were made with diffusers 0.31.0.

    python make_golden.py schedulers noise images:lcm,ancestral

makes only those, and keeps the other images.

* `schedulers.json`: for many configurations the timesteps, the sigmas, and some latents after every step.
* `noise.json`: the first numbers of some seeds.
* `images.json` and the PNG files: images of the pipelines of tests/models/tiny_diffusion.py.
"""

import itertools
import json
import pathlib
import subprocess
import sys
import tempfile

import diffusers
import ftfy  # noqa: F401  Without it transformers says nothing, and cuts words otherwise than OpenAI's tokenizer.
import numpy as np
import onnxruntime
import torch
import transformers
from diffusers.schedulers import scheduling_euler_ancestral_discrete, scheduling_lcm

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parents[3] / "tests"
BUILDER = TESTS / "models/tiny_diffusion.py"

sys.path.insert(0, str(TESTS))
from helpers.noise import chacha20, normal  # noqa: E402


# ---------------------------------------------------------------------------------------------------------
# Schedulers.

# The initial latents, and a substitute for the U-Net.
LATENTS = np.array([-2.5, -0.4, 0.2, 1.3])


# What follows a step whose scheduler adds noise is this times the number of the step, from 1.
NOISE = np.array([0.3, -1.1, 0.8, -0.2])


def predict(scaled, timestep):
    """A substitute for a U-Net: bounded, and different at every level."""
    return 0.8 * np.sin(2 * scaled + 0.01 * timestep) + 0.1 * scaled


SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LINEAR = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}


def configurations():
    """Configurations and the numbers of steps that they are run with."""
    classes = ["PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"]
    noisy = ["EulerAncestralDiscreteScheduler", "LCMScheduler"]
    predictions, spacings = ["epsilon", "v_prediction"], ["leading", "trailing", "linspace"]
    for (i, name), prediction, spacing in itertools.product(enumerate(classes + noisy), predictions, spacings):
        config = {"_class_name": name, **SD, "prediction_type": prediction, "timestep_spacing": spacing, "steps_offset": 1}
        if name == "PNDMScheduler":
            config["skip_prk_steps"] = True
        if name == "DDIMScheduler":
            config |= {"clip_sample": False, "set_alpha_to_one": spacing == "trailing"}
        yield config, [1, 2, 3, 7, 20] if prediction == "epsilon" else [4, 25]
    # Stable Diffusion 1.4's own file, with the steps of the paper.
    yield {"_class_name": "PNDMScheduler", **SD, "num_train_timesteps": 1000, "set_alpha_to_one": False,
           "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None, "clip_sample": False}, [50, 85]
    # Fields that are left out have the defaults of the class, clipping included.
    yield {"_class_name": "DDIMScheduler", **LINEAR}, [1, 10]
    yield {"_class_name": "DDIMScheduler"}, [6]
    yield {"_class_name": "DDIMScheduler", **SD, "prediction_type": "sample", "clip_sample_range": 0.5}, [6]
    yield {"_class_name": "DDIMScheduler", **SD, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
           "timestep_spacing": "trailing", "clip_sample": False}, [5, 11]
    yield {"_class_name": "PNDMScheduler", **LINEAR, "skip_prk_steps": True, "set_alpha_to_one": True}, [9]
    for name in classes[2:]:
        yield {"_class_name": name}, [6]
        yield {"_class_name": name, **SD, "use_karras_sigmas": True}, [1, 8, 20]
        yield {"_class_name": name, **SD, "final_sigmas_type": "sigma_min"}, [6, 20]
        yield {"_class_name": name, **SD, "prediction_type": "sample"}, [6]
        yield {"_class_name": name, **SD, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
               "timestep_spacing": "trailing"}, [5]
        yield {"_class_name": name, "num_train_timesteps": 10, "trained_betas": [0.01 * (i + 1) for i in range(10)]}, [4]
    for more in ({"solver_order": 1}, {"solver_type": "heun"}, {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
                 {"lower_order_final": False, "final_sigmas_type": "sigma_min"}, {"solver_type": "heun", "final_sigmas_type": "sigma_min"}):
        yield {"_class_name": classes[3], **SD, "timestep_spacing": "leading", "steps_offset": 1} | more, [6, 16]
    # A file that was converted between classes has fields of the others.
    yield {"_class_name": classes[3], **SD, "skip_prk_steps": True, "set_alpha_to_one": False, "clip_sample": False,
           "interpolation_type": "linear", "solver_type": "bh2", "thresholding": False, "use_karras_sigmas": False}, [6]
    for name in noisy:
        yield {"_class_name": name}, [1, 6, 50]
        yield {"_class_name": name, **LINEAR}, [6]
        yield {"_class_name": name, **SD, "skip_prk_steps": True, "set_alpha_to_one": False, "final_sigmas_type": "sigma_min",
               "use_karras_sigmas": True, "solver_type": "bh2", "interpolation_type": "linear"}, [6]
        yield {"_class_name": name, **SD, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
               "timestep_spacing": "trailing"}, [5]
        yield {"_class_name": name, "num_train_timesteps": 10, "original_inference_steps": 5,
               "trained_betas": [0.01 * (i + 1) for i in range(10)]}, [4]
    # LCM_Dreamshaper_v7's own file, as far as its fields matter.
    lcm = {"_class_name": noisy[1], **SD, "clip_sample": False, "clip_sample_range": 1.0, "original_inference_steps": 50,
           "prediction_type": "epsilon", "set_alpha_to_one": True, "steps_offset": 0, "timestep_scaling": 10.0,
           "timestep_spacing": "leading", "thresholding": False, "trained_betas": None}
    for more in ({}, {"original_inference_steps": 30}, {"original_inference_steps": 1000}, {"timestep_scaling": 0.1},
                 {"clip_sample": True}, {"clip_sample": True, "clip_sample_range": 0.4}, {"prediction_type": "sample"}):
        yield lcm | more, [1, 4, 8, 27]


def rounded(values):
    return [float(f"{value:.7g}") for value in np.asarray(values, np.float64)]


def inject(noise):
    """Has the schedulers that add noise add what `noise` returns, once for each step."""

    def randn_tensor(shape, generator=None, device=None, dtype=None):
        return torch.from_numpy(np.asarray(noise()).reshape(shape)).to(dtype)

    scheduling_lcm.randn_tensor = scheduling_euler_ancestral_discrete.randn_tensor = randn_tensor


def schedulers():
    cases = []
    for config, counts in configurations():
        for steps in counts:
            scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
            scheduler.set_timesteps(steps)
            sample = torch.from_numpy(LATENTS * float(scheduler.init_noise_sigma)).float()
            after = []
            for number, timestep in enumerate(scheduler.timesteps, 1):
                inject(lambda: NOISE * number)
                scaled = scheduler.scale_model_input(sample, timestep)
                prediction = predict(scaled.numpy().astype(np.float64), float(timestep))
                sample = scheduler.step(torch.from_numpy(prediction).float(), timestep, sample).prev_sample
                after.append(rounded(sample))
            has_sigmas = config["_class_name"] in (
                "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler")
            cases.append({
                "config": config, "steps": steps, "init_noise_sigma": float(scheduler.init_noise_sigma),
                "timesteps": rounded(scheduler.timesteps), "sigmas": rounded(scheduler.sigmas) if has_sigmas else [],
                "alphas_cumprod": rounded(scheduler.alphas_cumprod[[0, 1, len(scheduler.alphas_cumprod) // 2, -2, -1]]),
                "after": after})
    with open(HERE / "schedulers.json", "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(f"{len(cases)} runs of schedulers")


# ---------------------------------------------------------------------------------------------------------
# Noise.

def noise():
    # Of the original paper's authors, for a key and a nonce of zeros.
    assert chacha20(bytes(32), 1).hex().startswith("76b8e0ada0f13d90405d6ae55386bd28")
    seeds = [0, 1, 42, 2**32, 2**64 - 1]
    # From a draft of the format with this nonce (draft-agl-tls-chacha20poly1305-04), for a key of zeros.
    assert chacha20(bytes(32), 1, 1 << 56).hex().startswith("de9cba7bf3d69ef5e786dc63973f653a")
    cases = {str(seed): (seed, 0) for seed in seeds} | {f"{seed}, {step}": (seed, step) for seed, step in [(42, 1), (42, 49), (7, 2**40)]}
    values = {name: [float(f"{value:.9g}") for value in normal(seed, 37, step)] for name, (seed, step) in cases.items()}
    (HERE / "noise.json").write_text(json.dumps(values, indent=1) + "\n")


# ---------------------------------------------------------------------------------------------------------
# Images.

class Graph(diffusers.OnnxRuntimeModel):
    """A graph as diffusers runs it, with the values in the types and shapes that the graph was exported for."""

    # The guidance scale of a U-Net that takes it as an input.
    guidance_scale = None

    def __call__(self, **values):
        rows, inputs = None, {}
        for port in self.model.get_inputs():
            if port.name == "timestep_cond":
                # As diffusers' pipelines do.
                weights = torch.tensor(self.guidance_scale - 1).repeat(len(values["sample"]))
                embed = diffusers.LatentConsistencyModelPipeline.get_guidance_scale_embedding
                inputs[port.name] = embed(None, weights, embedding_dim=port.shape[1]).numpy()
                continue
            value = np.asarray(values[port.name])
            kind = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(int64)": "i8", "tensor(int32)": "i4"}[port.type]
            if port.name == "timestep":
                value = value.reshape([1] if port.shape else [])
            elif isinstance(port.shape[0], int):
                # As many rows as it was exported for.
                rows = len(value)
                value = np.concatenate([value] + [value[:1]] * (port.shape[0] - rows))
            inputs[port.name] = value.astype(kind)
        outputs = self.model.run(None, inputs)
        return [value[:rows].astype(np.float32) if value.dtype != bool else value for value in outputs]


class Ancestral(diffusers.EulerAncestralDiscreteScheduler):
    """The pipeline multiplies an array of NumPy by this."""

    @property
    def init_noise_sigma(self):
        return float(super().init_noise_sigma)


def pipeline(folder, checked):
    def graph(name):
        path = folder / name / "model.onnx"
        return Graph(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]))

    config = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    name = config["_class_name"]
    scheduler = Ancestral if name == "EulerAncestralDiscreteScheduler" else getattr(diffusers, name)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    # The slow tokenizer and both vocabulary files: none of it is what the Rust code reads.
    extractor = transformers.CLIPImageProcessor.from_pretrained(folder / "feature_extractor") if checked else None
    pipeline = diffusers.OnnxStableDiffusionPipeline(
        vae_encoder=None, vae_decoder=graph("vae_decoder"), text_encoder=graph("text_encoder"), tokenizer=tokenizer,
        unet=graph("unet"), scheduler=scheduler.from_config(config),
        safety_checker=graph("safety_checker") if checked else None, feature_extractor=extractor,
        requires_safety_checker=checked)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


CASES = [
    {"variant": "pndm", "prompt": "a photo of a cat.", "seed": 1, "steps": 12},
    {"variant": "pndm", "prompt": "A  Photo of the  HOUSE; naïve café 東京, don't!", "negative_prompt": "a dog",
     "seed": 2**63 + 11, "steps": 7, "guidance_scale": 3.0},
    {"variant": "pndm", "prompt": "a very long text " * 40, "seed": 3, "steps": 5, "guidance_scale": 0.0, "width": 96},
    {"variant": "pndm", "prompt": "one step", "seed": 4, "steps": 1},
    {"variant": "velocity", "prompt": "a drawing of the garden", "negative_prompt": "rain", "seed": 5, "steps": 10,
     "guidance_scale": 5.0},
    {"variant": "half", "prompt": "a close-up photo of the small red flower", "seed": 6, "steps": 8},
    {"variant": "fixed", "prompt": "a black and white picture of an old car", "seed": 7, "steps": 9, "guidance_scale": 4.0},
    {"variant": "fixed", "prompt": "25 oranges", "seed": 8, "steps": 20, "guidance_scale": 1.0},
    *({"variant": "checked", "prompt": "lemons on the table", "seed": seed, "steps": 3} for seed in range(8)),
    {"variant": "ancestral", "prompt": "a red bus in the rain", "seed": 11, "steps": 9},
    {"variant": "ancestral", "prompt": "a red bus in the rain", "seed": 12, "steps": 1, "guidance_scale": 1.0},
    {"variant": "lcm", "prompt": "a house by the sea", "negative_prompt": "ignored", "seed": 13, "steps": 4, "guidance_scale": 8.5},
    {"variant": "lcm", "prompt": "a house by the sea", "seed": 14, "steps": 4, "guidance_scale": 1.0},
    {"variant": "lcm", "prompt": "a house by the sea", "seed": 15, "steps": 1, "guidance_scale": 5.0}]


def images(variants=None):
    """Makes the images of these variants; of others, the cases stay as they are."""
    path = HERE / "images.json"
    others = [case for case in json.loads(path.read_text()) if case["variant"] not in variants] if variants else []
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        made = [case for case in CASES if not variants or case["variant"] in variants]
        for variant in {case["variant"] for case in made}:
            command = [sys.executable, str(BUILDER), str(folder / variant), "--variant", variant]
            subprocess.run(command, check=True)
        for case in made:
            case = {"negative_prompt": "", "guidance_scale": 7.5, "height": 64, "width": 64} | case
            checked = case["variant"] == "checked"
            count = 4 * case["height"] // 8 * case["width"] // 8
            latents = normal(case["seed"], count)
            numbers = itertools.count(1)
            inject(lambda: normal(case["seed"], count, next(numbers)))
            run = pipeline(folder / case["variant"], checked)
            guidance_scale = run.unet.guidance_scale = case["guidance_scale"]
            if case["variant"] == "lcm":
                # This pipeline knows no U-Net that takes the scale; others of diffusers do without the negative prompt then.
                guidance_scale = 1.0
            result = run(
                case["prompt"], case["height"], case["width"], case["steps"], guidance_scale,
                case["negative_prompt"], latents=latents.reshape(1, 4, case["height"] // 8, case["width"] // 8))
            case["blocked"] = bool(checked and result.nsfw_content_detected[0])
            if not case["blocked"]:
                case["image"] = f"{case['variant']}-{case['seed']}.png"
                result.images[0].save(HERE / case["image"], optimize=True)
            cases.append(case)
            pixels = np.asarray(result.images[0], np.float64)
            print(case["variant"], case["seed"], f"mean {pixels.mean():.1f}, deviation {pixels.std():.1f},",
                  f"at the ends {((pixels == 0) | (pixels == 255)).mean():.3f}", "blocked" if case["blocked"] else "")
    path.write_text(json.dumps(others + cases, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    makers = {"schedulers": schedulers, "noise": noise, "images": images}
    for word in sys.argv[1:] or makers:
        name, _, variants = word.partition(":")
        makers[name](*([variants.split(",")] if variants else []))
