# SPDX-License-Identifier: Apache-2.0
# The demo profile's producer and recommendation pipeline: Millrace's image and a Python for examples/shop.
ARG MILLRACE_IMAGE=millrace:latest
FROM ${MILLRACE_IMAGE}
USER 0
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-minimal libpython3-stdlib && \
    rm -rf /var/lib/apt/lists/*
COPY examples/shop /shop
USER 10001:10001
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
HEALTHCHECK NONE
ENTRYPOINT ["python3"]
CMD ["/shop/recommend.py"]
