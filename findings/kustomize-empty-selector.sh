#!/usr/bin/env bash
# Guess: a label with includeSelectors goes into every selector of the base, as it does into those that a Deployment and a Service do not even
#   have. So a NetworkPolicy that says podSelector: {} in the base is one for the base's own pods once it is built, and a
#   PodDisruptionBudget without a selector gets one.
# What happens: Deployment and Service get selectors that were not there. The NetworkPolicy's podSelector stays {}, which is every pod of
#   the namespace: all others that had no policy yet are cut off from what it does not list. The PodDisruptionBudget stays without one,
#   which protects nothing. The build is silent, exit status 0.
# Versions: kustomize v5.5.0, which kubectl 1.32 has built in.
# Why it matters here: a base that puts a sidecar before a service is applied to a namespace with others; its policies name their pods.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
export GOFLAGS=-mod=mod
cat >kustomization.yaml <<'Y'
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
labels: [{ pairs: { app: shop }, includeSelectors: true }]
resources: [all.yaml]
Y
cat >all.yaml <<'Y'
apiVersion: apps/v1
kind: Deployment
metadata: { name: shop }
spec: { template: { spec: { containers: [{ name: shop, image: shop }] } } }
---
apiVersion: v1
kind: Service
metadata: { name: shop }
spec: { ports: [{ port: 80 }] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: shop }
spec: { podSelector: {}, policyTypes: [Ingress], ingress: [{ ports: [{ port: 8080 }] }] }
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: shop }
spec: { maxUnavailable: 1 }
Y
go run sigs.k8s.io/kustomize/kustomize/v5@v5.5.0 build . >built.yaml
saw="$(awk '/^kind:/ { kind = $2 } /^  (podS|s)elector:/ { found = 1; print kind ":" $2; if ($2 == "") { getline; print "  " $1 } } /^---/ { kind = "" }' built.yaml; grep -c '^kind: PodDisruptionBudget' built.yaml)"
echo "$saw"
# Seen: the Service's selector is "app:", the Deployment's "matchLabels:", the NetworkPolicy's "{}", and none is the PodDisruptionBudget's.
want='Service:
  app:
Deployment:
  matchLabels:
NetworkPolicy:{}
1'
[ "$(sort <<<"$saw")" = "$(sort <<<"$want")" ] || { echo "this has changed" >&2; exit 1; }
