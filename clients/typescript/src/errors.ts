/** The codes of errors that come from the client itself; all others come from the server. */
export type ClientErrorCode = "unreachable" | "timeout" | "not_lorestream" | "rejected" | "invalid_value";

export interface ErrorFields {
  status?: number;
  details?: Record<string, unknown>;
  requestId?: string;
  retryAfterMs?: number;
  cause?: unknown;
}

/**
 * What went wrong. `code` is the server's ("invalid_filter", "not_found", "version_conflict", …) or a ClientErrorCode;
 * `details.path` names the invalid field, if there is one.
 */
export class LorestreamError extends Error {
  override readonly name = "LorestreamError";
  readonly code: string;
  /** The HTTP status; 0 where there was no answer. */
  readonly status: number;
  readonly details: Record<string, unknown>;
  readonly requestId: string | undefined;
  /** How long the server asks to wait before the next attempt. */
  readonly retryAfterMs: number | undefined;

  constructor(code: string, message: string, fields: ErrorFields = {}) {
    const path = fields.details?.["path"];
    super(typeof path === "string" ? `${path}: ${message} (${code})` : `${message} (${code})`, { cause: fields.cause });
    this.code = code;
    this.status = fields.status ?? 0;
    this.details = fields.details ?? {};
    this.requestId = fields.requestId;
    this.retryAfterMs = fields.retryAfterMs;
  }

  /** Whether the same call may succeed later: overload, an outage, no answer. */
  get retryable(): boolean {
    return this.status === 429 || this.status === 503 || this.code === "unreachable" || this.code === "timeout";
  }
}

/** The error of a response that is not a success. */
export async function errorOf(response: Response): Promise<LorestreamError> {
  const text = await response.text().catch(() => "");
  try {
    const { error } = JSON.parse(text) as { error: Record<string, any> };
    if (typeof error["code"] !== "string") throw new TypeError("the error of something else");
    return new LorestreamError(error["code"], String(error["message"]), {
      status: response.status,
      details: error["details"] ?? {},
      requestId: error["request_id"],
      retryAfterMs: error["retry_after_ms"] ?? error["details"]?.retry_after_ms,
    });
  } catch {
    return new LorestreamError("not_lorestream", `${response.url} is not a Lorestream: HTTP ${response.status}`, {
      // A proxy before a Lorestream that is starting answers 502 to 504, too.
      status: response.status >= 502 && response.status <= 504 ? 503 : response.status,
    });
  }
}
