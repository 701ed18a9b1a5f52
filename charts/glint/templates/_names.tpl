{{- /* The name of everything that is made once per release. */}}
{{- define "glint.name" -}}
{{- if contains "glint" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-glint" (.Release.Name | trunc 44 | trimSuffix "-") }}{{ end }}-operator
{{- end }}

{{- /* Names of what belongs to the whole Kubernetes cluster: two releases may have one name in two namespaces. */}}
{{- define "glint.clusterName" -}}
{{ .Release.Namespace }}-{{ include "glint.name" . }}
{{- end }}

{{- define "glint.selector" -}}
app.kubernetes.io/name: glint-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "glint.labels" -}}
{{ include "glint.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "glint.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "glint.name" .) }}
{{- end }}

{{- define "glint.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* What the operator does to ParameterServers and what it makes for them; docs/kubernetes.md says why each is needed. */}}
{{- define "glint.rules" -}}
- apiGroups: [glint.dev]
  resources: [parameterservers]
  verbs: [get, list, watch]
- apiGroups: [glint.dev]
  resources: [parameterservers/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, create, patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
