#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Stands in for the official Kafka image's entry point: KAFKA_A_B=v becomes a.b=v; the data folder is formatted once.
set -eu
properties=/tmp/server.properties
env | sed -n 's/^KAFKA_//p' | grep -v -E '^(HEAP_OPTS)=' | while IFS='=' read -r name value; do
  echo "$(echo "$name" | tr 'A-Z_' 'a-z.')=$value"
done >$properties
java=(java ${KAFKA_HEAP_OPTS:-} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j.configuration=file:/opt/kafka/log4j.properties -cp '/opt/kafka/libs/*')
[ -e "$KAFKA_LOG_DIRS/meta.properties" ] || "${java[@]}" kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qg -c $properties
exec "${java[@]}" kafka.Kafka $properties
