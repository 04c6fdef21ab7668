# docker build -t domain-experts . && docker run -v "$PWD/out:/project/results" domain-experts
FROM python:3.12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends git make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /project
COPY . .
RUN make .venv/installed
CMD ["make", "reproduce"]
