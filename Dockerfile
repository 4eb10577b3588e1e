# The bot in a container: docker compose up -d, with the token in .env. Models and state live outside (compose.yaml).
FROM python:3.12-slim
WORKDIR /storyteller
# A CPU image is 5 GB smaller: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
ARG TORCH_INDEX=https://pypi.org/simple
RUN pip install --no-cache-dir torch==2.13.0 --index-url ${TORCH_INDEX}
# A GPU's kernels are compiled on the host that has it, by Triton, for which a C compiler is needed.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml README.md LICENSE ./
COPY bot bot
COPY trainer trainer
RUN pip install --no-cache-dir --editable .
COPY models models
RUN useradd --create-home storyteller && mkdir -p .state && chown storyteller .state
USER storyteller
# What is compiled for the host's processor and its GPU outlives the container, as the state does.
ENV NUMBA_CACHE_DIR=/storyteller/.state/compiled TRITON_CACHE_DIR=/storyteller/.state/triton
# Exec form, so that SIGTERM reaches the bot and it can end the stories in flight.
CMD ["python", "-m", "bot", "discord"]
