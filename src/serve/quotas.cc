#include "serve/quotas.h"

#include "base/format.h"
#include "base/utc.h"
#include "serve/fields.h"

namespace accrete::serve {

void Quotas::take(const std::string& key, const KeyQuotas& quotas, int64_t items) {
  if (quotas.items_a_job > 0 && items > quotas.items_a_job)
    throw RequestError(
        429, "quota_exceeded", "items",
        accrete::format("this key may teach {} items at a time, not {}", quotas.items_a_job, items),
        "teach them in several sets");
  if (quotas.jobs_a_day == 0) return;
  const std::lock_guard lock(mutex_);
  if (const std::string today = utc_now("%Y-%m-%d"); today != day_) {
    day_ = today;
    begun_.clear();
  }
  if (begun_[key] >= quotas.jobs_a_day)
    throw RequestError(
        429, "quota_exceeded", "",
        accrete::format("this key has begun its {} jobs of today", quotas.jobs_a_day),
        "try again after midnight, UTC");
  ++begun_[key];
}

}  // namespace accrete::serve
