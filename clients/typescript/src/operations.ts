import { newId, quoted } from "./base.js";
import { Learning } from "./learning.js";
import type { CallOptions } from "./transport.js";
import type { Readiness, Rewind, RewindReceipt, RewindSize, Webhook, WebhookFilter, WebhookTried } from "./types.js";

/** Rewinds, webhooks, and the service itself. */
export abstract class Operations extends Learning {
  // --- rewinds -----------------------------------------------------------------------------------------------

  /** Hide what the agents of a game server came to know after `to` (Unix seconds): its world was restored from a backup. */
  async rewind(server: string, to: number, options: CallOptions & { id?: string } = {}): Promise<RewindReceipt> {
    return this.writeJson("POST", "/v1/rewinds", { server, to, id: options.id ?? newId() }, options);
  }

  /** Show again what a rewind hides. */
  async undoRewind(rewindId: string, options: CallOptions = {}): Promise<RewindReceipt> {
    return this.askWriter("DELETE", `/v1/rewinds/${quoted(rewindId)}`, options);
  }

  /** The newest rewinds, and the state of each. */
  async rewinds(limit = 100, options: CallOptions = {}): Promise<Rewind[]> {
    return (await this.askWriter<{ rewinds: Rewind[] }>("GET", "/v1/rewinds", options, { limit })).rewinds;
  }

  /** One rewind, and its state. Throws `not_found`. */
  async findRewind(rewindId: string, options: CallOptions = {}): Promise<Rewind> {
    return this.askWriter("GET", `/v1/rewinds/${quoted(rewindId)}`, options);
  }

  /** How many memories of how many agents a rewind would hide now. Changes nothing. */
  async rewindSize(server: string, to: number, options: CallOptions = {}): Promise<RewindSize> {
    return this.readJson("POST", "/v1/rewinds/preview", options, { body: { server, to } });
  }

  // --- webhooks: they need the scope admin where there are keys ----------------------------------------------

  /**
   * Let the address get memories as they become findable, signed with `secret`; without one, one is made, which only
   * this answer has. A retry may make a second webhook.
   */
  async createWebhook(
    url: string,
    options: CallOptions & { filter?: WebhookFilter; secret?: string } = {},
  ): Promise<Webhook & { secret: string | null }> {
    return this.writeJson("POST", "/v1/webhooks", { url, filter: options.filter, secret: options.secret }, options);
  }

  /** The webhooks of the tenant, the oldest first. */
  async webhooks(options: CallOptions = {}): Promise<Webhook[]> {
    return (await this.askWriter<{ webhooks: Webhook[] }>("GET", "/v1/webhooks", options)).webhooks;
  }

  /** Remove a webhook. May be repeated. */
  async deleteWebhook(webhookId: string, options: CallOptions = {}): Promise<void> {
    await this.askWriter("DELETE", `/v1/webhooks/${quoted(webhookId)}`, options);
  }

  /** Let a webhook that was set aside go on where it stood. Throws `not_found`. */
  async resumeWebhook(webhookId: string, options: CallOptions = {}): Promise<Webhook> {
    return this.askWriter("POST", `/v1/webhooks/${quoted(webhookId)}/resume`, options);
  }

  /** Send a signed request without memories; what it has brought. Throws `not_found`. */
  async tryWebhook(webhookId: string, options: CallOptions = {}): Promise<WebhookTried> {
    return this.askWriter("POST", `/v1/webhooks/${quoted(webhookId)}/test`, options, {}, { waitMs: 10_000 });
  }

  // --- the service -------------------------------------------------------------------------------------------

  /** Check that a Lorestream answers. Throws `unreachable`, without retries. */
  async check(options: CallOptions = {}): Promise<{ status: string }> {
    return this.askWriter("GET", "/health", options, {}, { retries: false });
  }

  /** Whether the Lorestream can do its job: `status` is "ok", or `checks` says what is missing. Without retries. */
  async ready(options: CallOptions = {}): Promise<Readiness> {
    return this.askWriter("GET", "/ready", options, {}, { retries: false, otherSuccess: 503 });
  }

  /** The version of the Lorestream. */
  async version(options: CallOptions = {}): Promise<string> {
    return (await this.askWriter<{ info: { version: string } }>("GET", "/openapi.json", options)).info.version;
  }
}
