{{- define "lorestream.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "lorestream.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "lorestream.labels" -}}
{{ include "lorestream.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "lorestream.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "lorestream.secret" -}}
{{ .Values.keys.existingSecret | default (printf "%s-keys" (include "lorestream.name" .)) }}
{{- end }}

{{/* The settings of all processes. */}}
{{- define "lorestream.settings" -}}
LORESTREAM_LOG_FORMAT: json
LORESTREAM_API_KEYS_FILE: /keys/keys.json
LORESTREAM_PLAYER_KEY_FILE: /keys/player_key
{{- if eq .Values.mode "distributed" }}
LORESTREAM_LOG__BOOTSTRAP: {{ required "kafka.bootstrap is needed with mode=distributed, such as kafka:9092" .Values.kafka.bootstrap | quote }}
LORESTREAM_LOG__PARTITIONS: {{ .Values.worker.partitions | quote }}
LORESTREAM_GATEWAY_URL: {{ printf "http://%s-gateway:%v" (include "lorestream.name" .) .Values.gateway.port | quote }}
LORESTREAM_STORE__URL: {{ required "qdrant.url is needed with mode=distributed, such as http://qdrant:6333" .Values.qdrant.url | quote }}
{{- with .Values.redis.url }}
LORESTREAM_CACHE__URL: {{ . | quote }}
{{- end }}
{{- else }}
LORESTREAM_DATA_DIR: /data
{{- end }}
{{- range $name, $value := .Values.settings }}
{{ $name }}: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{/* What the pods of all components have in common. */}}
{{- define "lorestream.pod" -}}
{{- $values := .root.Values }}
automountServiceAccountToken: false
# Otherwise Kubernetes sets variables for each Service, some of which look like settings.
enableServiceLinks: false
terminationGracePeriodSeconds: 30
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "lorestream.selector" . | nindent 8 }}
containers:
  - name: {{ .component }}
    image: {{ include "lorestream.image" .root }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    args: {{ toYaml .args | nindent 6 }}
    envFrom:
      - configMapRef: {name: {{ include "lorestream.name" .root }}}
    {{- with $values.env }}
    env: {{ toYaml . | nindent 6 }}
    {{- end }}
    ports:
      {{- range $name, $port := .ports }}
      - {name: {{ $name }}, containerPort: {{ $port }}}
      {{- end }}
    {{- if or (eq .component "gateway") (eq .component "query") }}
    # A process that is told to stop refuses connections at once, but for some seconds others are still sent to it.
    lifecycle: {preStop: {exec: {command: [sleep, "5"]}}}
    {{- end }}
    # A start may repair the embedded store, or wait for the engines.
    startupProbe:
      httpGet: {path: /health, port: http}
      periodSeconds: 2
      failureThreshold: 150
    readinessProbe:
      httpGet: {path: /ready, port: http}
      periodSeconds: 5
      timeoutSeconds: 4
    livenessProbe:
      httpGet: {path: /health, port: http}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    resources: {{ toYaml .resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    volumeMounts:
      - {name: keys, mountPath: /keys, readOnly: true}
      - {name: tmp, mountPath: /tmp}
      {{- if eq .component "embedded" }}
      - {name: data, mountPath: /data}
      {{- end }}
volumes:
  - name: keys
    secret: {secretName: {{ include "lorestream.secret" .root }}, defaultMode: 0440}
  - name: tmp
    emptyDir: {sizeLimit: 1Gi}
{{- end }}

{{/* A Deployment with its Service, autoscaler and disruption budget. */}}
{{- define "lorestream.deployment" -}}
{{- $name := printf "%s-%s" (include "lorestream.name" .root) .component }}
{{- $scaling := .values.autoscaling | default (dict "enabled" false) }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels: {{ include "lorestream.labels" . | nindent 4 }}
spec:
  {{- if not (or $scaling.enabled .scaledElsewhere) }}
  replicas: {{ .values.replicas }}
  {{- end }}
  selector:
    matchLabels: {{ include "lorestream.selector" . | nindent 6 }}
  template:
    metadata:
      labels: {{ include "lorestream.labels" . | nindent 8 }}
        {{- with .root.Values.podLabels }}{{ toYaml . | nindent 8 }}{{ end }}
      annotations:
        checksum/settings: {{ include "lorestream.settings" .root | sha256sum }}
        {{- with .root.Values.podAnnotations }}{{ toYaml . | nindent 8 }}{{ end }}
    spec: {{ include "lorestream.pod" . | nindent 6 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels: {{ include "lorestream.labels" . | nindent 4 }}
  {{- with .root.Values.service.annotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if eq .component "worker" }}
  # For the metrics alone.
  clusterIP: None
  {{- else }}
  type: {{ .root.Values.service.type }}
  {{- end }}
  selector: {{ include "lorestream.selector" . | nindent 4 }}
  ports:
    {{- range $port, $number := .ports }}
    - {name: {{ $port }}, port: {{ $number }}, targetPort: {{ $port }}}
    {{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels: {{ include "lorestream.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{ include "lorestream.selector" . | nindent 6 }}
{{- if $scaling.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  labels: {{ include "lorestream.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ .values.replicas }}
  maxReplicas: {{ max .values.replicas $scaling.maxReplicas }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ $scaling.cpu }}}}
{{- end }}
{{- end }}
