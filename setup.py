"""Packages the project; Beam's `--setup_file` sends what this builds to remote workers.

Workers install it without extras, so `install_requires` is what the fused step of a shard needs: a fetch, a decoder,
a shard writer and the page of a finished data set. Everything heavier is an extra.
"""

from setuptools import find_packages, setup

CHECK = ["numpy>=2", "Pillow>=12", "certifi>=2025.1.31", "idna>=3.7", "requests>=2.32"]
WRITE = ["google-cloud-storage>=3", "google-crc32c>=1.7", "jinja2>=3.1.6", "protobuf>=6,<7", "urllib3>=2.5"]
TENSORFLOW = ["tensorflow>=2.21,<2.22"]

setup(
    name="museum-image-classifier",
    version="0.1.0",
    description="From a museum's catalogue to a trained, served image classifier, on a laptop or on a cluster",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=["beam_pipelines*", "trainer*", "serving*"]),
    package_data={
        "": ["py.typed"],
        **{package: ["templates/*"] for package in ("beam_pipelines", "serving", "trainer")},
    },
    entry_points={"console_scripts": ["museum-beam-worker = beam_pipelines.process_worker:main"]},
    install_requires=CHECK + WRITE,
    extras_require={
        "beam": [
            "apache-beam[gcp]==2.77.0",
            "google-cloud-bigquery>=3.30",
            "matplotlib>=3.10",
            "pyarrow>=18",
            "tensorflow-transform>=1.21,<1.22",
            *TENSORFLOW,
        ],
        "train": [*TENSORFLOW, "matplotlib>=3.10", "tensorboard>=2.20"],
        "serve": TENSORFLOW,
        "dev": [
            "gcp-storage-emulator>=2024.8",
            "hypothesis>=6",
            "mypy>=1.18",
            "pytest>=8",
            "pytest-timeout>=2",
            "pytest-xdist>=3",
            "ruff>=0.14",
            "scikit-learn>=1.7",
            "types-protobuf",
            "types-requests",
        ],
    },
)
