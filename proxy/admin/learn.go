package admin

import "net/http"

// serveLearned answers with what was learned of what is passed through: see [learn.Report].
func (a Port) serveLearned(w http.ResponseWriter, _ *http.Request) {
	if a.Proxy.Learner == nil {
		http.Error(w, "nothing is learned; set SSE_LEARN=true", http.StatusNotFound)
		return
	}
	answerJSON(w, http.StatusOK, a.Proxy.Learner.Report())
}
