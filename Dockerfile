# Two images of one program: `api`, which has no torch, and `worker`, on a CPU or on CUDA.
#
#   docker build --target api .
#   docker build --target worker .                            torch for CPUs, from PyTorch's own index
#   docker build --target worker --build-arg DEVICE=cuda .    torch from PyPI, with CUDA's libraries: gigabytes
#
# Every version is that of constraints.txt. Layers go from what seldom changes to what often does: torch, the other
# packages, our own code. A mirror of PyPI is named by the build arguments PIP_INDEX_URL and UV_DEFAULT_INDEX.

# The version that the tests run on.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS base
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A number that no account of the host is likely to have. New volumes take the owner of what they are mounted over.
RUN groupadd --gid 10001 glm4v \
 && useradd --uid 10001 --gid glm4v --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin glm4v \
 && install --directory --owner=glm4v --group=glm4v /scratch /weights
WORKDIR /srv/glm4v

# A file for each list of versions: a layer is made again when its own list changes, not when any version does.
FROM base AS versions
COPY constraints.txt ./
RUN grep '^uv==' constraints.txt > uv.txt \
 && grep -E '^(torch|torchvision)==' constraints.txt > torch-cpu.txt \
 && grep -E '^(torch|torchvision|triton|cuda-.*|nvidia-.*)==' constraints.txt > torch-cuda.txt

FROM base AS installer
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 VIRTUAL_ENV=/opt/venv
COPY --from=versions /srv/glm4v/uv.txt ./
RUN pip install --quiet --no-cache-dir --disable-pip-version-check -r uv.txt && python -m venv --without-pip /opt/venv

FROM installer AS api-packages
COPY pyproject.toml constraints.txt ./
RUN uv pip install --quiet -c constraints.txt -r pyproject.toml --extra api

FROM installer AS program
COPY . ./
RUN uv pip install --quiet --no-deps --build-constraints constraints.txt .

FROM base AS api
COPY --from=api-packages /opt/venv /opt/venv
COPY alembic.ini ./
COPY migrations ./migrations
COPY --from=program /opt/venv /opt/venv
USER glm4v
EXPOSE 8000
# One process: replicas are counted, restarted and asked for their health one by one.
# Events are streams without an end: whoever watches one must not hold up a stop.
CMD ["uvicorn", "api.main:app", "--host", "0.0.0.0", "--port", "8000", "--no-access-log", "--timeout-graceful-shutdown", "10"]

FROM installer AS torch
# cpu or cuda
ARG DEVICE=cpu
COPY --from=versions /srv/glm4v/torch-*.txt ./
RUN if [ "$DEVICE" = cpu ]; then export UV_TORCH_BACKEND=cpu; fi \
 && uv pip install --quiet --no-deps -r "torch-$DEVICE.txt"

FROM torch AS worker-packages
ARG DEVICE=cpu
COPY pyproject.toml constraints.txt ./
# What is newer than torch goes into a layer of its own, so that no other package moves torch's gigabytes.
RUN if [ "$DEVICE" = cpu ]; then export UV_TORCH_BACKEND=cpu; fi \
 && touch torch-is-installed \
 && uv pip install --quiet -c constraints.txt -r pyproject.toml --extra api --extra core \
 && mkdir /added && cd /opt/venv \
 && find . -type f -cnewer /srv/glm4v/torch-is-installed -exec cp --parents --preserve=mode,timestamps -t /added {} +

FROM base AS worker
ENV HF_HOME=/weights
COPY --from=torch /opt/venv /opt/venv
COPY --from=worker-packages /added /opt/venv
COPY --from=program /opt/venv /opt/venv
USER glm4v
CMD ["celery", "-A", "worker", "worker", "--pool=solo"]
